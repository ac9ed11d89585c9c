# Thin: everything is in bootstrap.py, which also works as `python3 bootstrap.py NAME` where make is absent.
PYTHON ?= python3

.PHONY: quickstart test check install lock clean
quickstart test check install lock clean:
	@$(PYTHON) bootstrap.py $@
