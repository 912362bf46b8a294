"""Emotion recognition on IEMOCAP: four classes, one session held out."""
