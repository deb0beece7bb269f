"""The library three.js as one file for pages with the preview, with its licence, and the script that builds it."""
