"""What can be said of histories of items before torch is there: the names of their encoders."""

from __future__ import annotations

READS = "histories of items"  # what an encoder of this modality is said to read
NEXT_UP = "recommendation"  # the target that they are judged by without labels

ENCODERS = {
    "sasrec_nano": "tacit.modalities.events.sasrec:SASRec",
    "sasrec_tiny": "tacit.modalities.events.sasrec:SASRec",
    "sasrec_small": "tacit.modalities.events.sasrec:SASRec",
    "bert4rec_nano": "tacit.modalities.events.bert4rec:Bert4Rec",
    "bert4rec_tiny": "tacit.modalities.events.bert4rec:Bert4Rec",
    "bert4rec_small": "tacit.modalities.events.bert4rec:Bert4Rec",
}
