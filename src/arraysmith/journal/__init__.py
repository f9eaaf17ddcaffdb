"""What was explored stays explored: `blocks` is the file, `identity` says of what it is."""

from arraysmith.journal.blocks import JOURNAL, Existing, Journal, open_journal
from arraysmith.journal.identity import Identity

__all__ = ["JOURNAL", "Existing", "Identity", "Journal", "open_journal"]
