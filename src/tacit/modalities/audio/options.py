"""What can be said of recordings before torch is there: the names of their encoders."""

from __future__ import annotations

READS = "recordings"  # what an encoder of this modality is said to read

ENCODERS = {
    "audio_convnet": "tacit.modalities.audio.convnet:AudioConvNet",
    "audio_nano": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_tiny": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_small": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_base": "tacit.modalities.audio.transformer:AudioTransformer",
    "ast_nano": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "ast_tiny": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "ast_small": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "ast_base": "tacit.modalities.audio.ast:AudioSpectrogramTransformer",
    "audio_causal_nano": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_causal_tiny": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_causal_small": "tacit.modalities.audio.transformer:AudioTransformer",
    "audio_causal_base": "tacit.modalities.audio.transformer:AudioTransformer",
    "wav2vec2_nano": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
    "wav2vec2_tiny": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
    "wav2vec2_small": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
    "wav2vec2_base": "tacit.modalities.audio.wav2vec2:Wav2Vec2",
}
