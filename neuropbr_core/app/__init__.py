"""The app: a page on this machine that turns dropped photos into maps, a preview and packages.

limits.py     how much the app accepts
jobs.py       the photos of one material and what became of them; the folder that holds them; who may still find them
queues.py     one piece of work after the other, and how many are before one
photos.py     an uploaded file -> a photo of a job, or a line that says why it is none
making.py     a job's photos -> maps and preview -> a zip file of packages
guard.py      requests from other pages and for other hosts are refused; the headers of every answer
page.py       the page as HTML
site.py       addresses and what they answer
serving.py    the port, the temporary folder, and the end
assets/       style and program of the page; the preview is the viewer's

Starlette and uvicorn are the extra `app`. Only `neuropbr app` imports this package.
"""
