"""Floor 4: queries and keys turned back into generation. Attention motion flow, guidance and transfer come here."""
