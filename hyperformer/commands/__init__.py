"""The subcommands of ``hyperformer`` for trained models. `train` is in finetune_t5_trainer.py, `params` in cli.py."""
