"""What is measured during and after training: held-out loss, metrics, their statistics, figures of folds."""
