"""Web page of the module `regression`, where it is a Space of the Hub."""

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load("regression.py"))
