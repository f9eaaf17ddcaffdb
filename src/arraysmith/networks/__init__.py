"""Networks as graphs of frozen records: what importers give and the quantizer takes."""
