"""The library three.js as one file for the report's page, with its licence, and the script that builds it."""
