"""From one YAML file to a table of results: plans a sweep's runs, schedules them, watches and reports.

Imports torch nowhere but inside a job (:mod:`launchers.job.attempt`).
"""
