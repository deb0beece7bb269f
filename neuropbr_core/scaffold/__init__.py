"""Packages of third parties: writes a complete one for a new component, adds components, follows the template.

    names.py        which names a package and its components may have
    package.py      names -> the text of every file, from the templates in `templates/`
    project.py      what a package's `pyproject.toml` and record contain; entry points are added there
    writing.py      a new folder, further components, and updates that leave the author's changes alone

The folders of `templates/` are a package's own folders: `package/` has what every package has, and each other folder
what a component of that kind adds. `MODULE`, `NAME` and `TESTS` in a path, and `@{…}` in a text, are replaced.
"""
