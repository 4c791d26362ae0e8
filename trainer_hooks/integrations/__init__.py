"""Callbacks that take a plan into other people's trainers: Hugging Face Trainer and Lightning.

    from trainer_hooks.integrations.hugging_face import AveragingCallback, ScheduleCallback
    from trainer_hooks.integrations.lightning import AveragingCallback, OrderBatches, ScheduleCallback

`trainer_hooks.examples` has a whole script for each, and one for a loop of your own.
"""
