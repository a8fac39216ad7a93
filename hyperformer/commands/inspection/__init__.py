"""The subcommands of ``hyperformer`` that train nothing and need no trained model: `data` and `list`."""
