"""Hosts: `registry` (registering, finding, changing), `admission` (who may call, from where, and what a host may
store), `installers`, and `enrolment` of whole lists.
"""
