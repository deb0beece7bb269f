"""Files that people and programs bring: read as data, checked for their shape, and shown without control characters.

files.py      bytes and text of ordinary files; pipes, devices and sockets are refused
documents.py  JSON whose types, keys and numbers are checked
shown.py      text from outside, as messages and listings show it
"""

from neuropbr_core.reading.documents import DocumentError, convert_json, parse_json, parse_plain, read_json
from neuropbr_core.reading.files import check_ordinary, is_plain_name, read_bytes, read_text
from neuropbr_core.reading.shown import printable, shortened

__all__ = [
    "DocumentError",
    "check_ordinary",
    "convert_json",
    "is_plain_name",
    "parse_json",
    "parse_plain",
    "printable",
    "read_bytes",
    "read_json",
    "read_text",
    "shortened",
]
