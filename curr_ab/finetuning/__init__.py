"""Fine-tuning for new tasks: recipes as data, adapters, folds that do not leak."""
