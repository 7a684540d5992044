"""Files that appear whole, say when they are damaged, and never run or believe what a hostile one says."""
