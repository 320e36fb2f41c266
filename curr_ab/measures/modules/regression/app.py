"""Page of the module where it is a Space of the Hub."""

import evaluate
from evaluate.utils import launch_gradio_widget

if __name__ == "__main__":
    launch_gradio_widget(evaluate.load("regression.py"))
