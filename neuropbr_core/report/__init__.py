"""The report: runs and maps on one HTML page that opens offline, with an interactive preview.

contents.py    what a report shows: materials with their pictures, and runs with scores, curves and records
maps_folder.py a folder of maps, as `neuropbr infer` writes it -> a material
curves.py      a run's journal -> curves with few points
tables.py      scores -> tables beside baselines
page.py        contents -> the page
strip.py       photos, maps and the material on a ball in one picture
batch_page.py  the captures of a batch -> a page with a table
writing.py     the page's file, which replaces no file but an earlier report
assets/        programs that belong to reports alone; `neuropbr_core.viewer` has the others
"""

from neuropbr_core.report.contents import Report, RunContent, Showcase, Version
from neuropbr_core.report.maps_folder import read_showcase
from neuropbr_core.report.page import MAP_SIDE, showcase_part, write_page
from neuropbr_core.report.writing import REPORT_NAME, check_report_place, report_key, write_report

__all__ = [
    "MAP_SIDE",
    "REPORT_NAME",
    "Report",
    "RunContent",
    "Showcase",
    "Version",
    "check_report_place",
    "read_showcase",
    "report_key",
    "showcase_part",
    "write_page",
    "write_report",
]
