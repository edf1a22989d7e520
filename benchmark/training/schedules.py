"""Learning rate over time, as a factor of the recipe's."""

from __future__ import annotations

import math
from bisect import bisect_right

from benchmark.spec import RecipeSpec


def learning_rate_factor(recipe: RecipeSpec, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """What the learning rate of an optimiser step is multiplied by.

    Args:
        recipe: its `schedule` counts epochs or steps; in epochs, the rate changes only between them.
        step: optimiser steps done, from 0.
        total_steps: length of the training.
        steps_per_epoch: optimiser steps in an epoch.

    Returns:
        A factor of `recipe.optimizer.lr`, from 0 to 1.
    """
    schedule = recipe.schedule
    if schedule.unit == "epoch":
        now, end = float(step // steps_per_epoch), total_steps / steps_per_epoch
    else:
        now, end = float(step), float(total_steps)
    after = now - schedule.warmup  # units since the warm-up
    if schedule.first is not None:
        now += schedule.first
        # GradualWarmupScheduler: its last part is all of lr, and what it hands over to then starts with lr as well
        if schedule.warmup and now <= schedule.warmup:
            return now / schedule.warmup
        after = now = now - schedule.warmup - 1 if schedule.warmup else now
    elif after < 0:
        return (now + 1) / (schedule.warmup + 1)
    if schedule.name == "cosine":
        floor = schedule.final_lr / recipe.optimizer.lr
        progress = min(1.0, after / max(end - schedule.warmup, 1e-12))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.name == "step":
        return schedule.gamma ** int(now // schedule.every)
    if schedule.name == "multistep":
        return schedule.gamma ** bisect_right(sorted(schedule.milestones), now)
    if schedule.name == "linear":
        return 1.0 if now < schedule.start else max(0.0, (end - now) / max(end - schedule.start, 1e-12))
    return 1.0
