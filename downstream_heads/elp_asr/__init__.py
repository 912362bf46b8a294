"""Automatic speech recognition on LibriSpeech: characters, CTC, greedy decoding."""
