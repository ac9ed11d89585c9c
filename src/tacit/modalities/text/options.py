"""What can be said of text before torch is there: the names of their encoders."""

from __future__ import annotations

READS = "text"  # what an encoder of this modality is said to read

ENCODERS = {
    "bert_bag": "tacit.modalities.text.bert:Bert",
    "bert_nano": "tacit.modalities.text.bert:Bert",
    "bert_tiny": "tacit.modalities.text.bert:Bert",
    "bert_small": "tacit.modalities.text.bert:Bert",
    "bert_base": "tacit.modalities.text.bert:Bert",
    "modernbert_nano": "tacit.modalities.text.modernbert:ModernBert",
    "modernbert_tiny": "tacit.modalities.text.modernbert:ModernBert",
    "modernbert_small": "tacit.modalities.text.modernbert:ModernBert",
    "modernbert_base": "tacit.modalities.text.modernbert:ModernBert",
}
