"""Follow-Your-Motion: one LoRA for the spatial heads and another for the temporal heads."""
