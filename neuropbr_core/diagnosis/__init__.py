"""What `neuropbr doctor` looks at: this machine, its packages, and the components that they offer.

environment.py  Python, system, packages with their versions, extras, devices
imports.py      how long each thin module takes to import, and what heavy packages it brings along
privacy.py      text without user and host names, with shortened paths, for a report that others read
"""
