"""Follow-Your-Motion: a LoRA for the heads that carry space, and another for those that carry time."""
