"""Hosts: `registry` (registering, finding, changing), `admission` (who may call, from where), `permits`, `installers`,
and `enrolment` of whole lists.
"""
