"""The HTML report: one file that opens offline, as a function of session, plan and finding."""
