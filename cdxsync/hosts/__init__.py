"""Hosts: `registry` (registering, the address rule), `permits`, `installers`, and `enrolment` of whole lists."""
