"""Files that people and programs bring: read as data, and checked for their shape.

files.py      bytes and text of ordinary files; pipes, devices and sockets are refused
documents.py  JSON whose types, keys and numbers are checked
"""

from neuropbr_core.reading.documents import DocumentError, convert_json, parse_json, parse_plain, read_json
from neuropbr_core.reading.files import check_ordinary, is_plain_name, open_bytes, read_bytes, read_text

__all__ = [
    "DocumentError",
    "check_ordinary",
    "convert_json",
    "is_plain_name",
    "open_bytes",
    "parse_json",
    "parse_plain",
    "read_bytes",
    "read_json",
    "read_text",
]
