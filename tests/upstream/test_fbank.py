"""Log-mel features without a backbone."""

import torch

import upstream_elp


def test_blocks_are_those_of_s3prl_centred_and_scaled():
    upstream_elp.register()
    from s3prl import hub

    waves = [torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1 for samples in (9000, 16000)]
    expert, theirs = hub.fbank_scaled(), hub.fbank_no_cmvn()
    assert expert.get_downsample_rates("hidden_states") == theirs.get_downsample_rates("hidden_states") == 160
    ours, plain = expert(waves)["hidden_states"][-1], theirs(waves)["hidden_states"][-1]
    assert ours.shape == plain.shape and ours.shape[-1] == 240
    back = ours * expert.scale + expert.centre
    torch.testing.assert_close(back, plain)
    assert not list(expert.parameters())
