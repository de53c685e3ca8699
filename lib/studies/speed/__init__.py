"""What a training step costs: our dictionaries, plain references and the peers, as ratios measured in one run.

__main__  prints the tables of an executed notebook: `python -m lib.studies.speed NOTEBOOK`
measures  the methods, and the CPU time of their training steps and of coding a batch
memory    the peak memory of training, each method in a process of its own
peers     SAELens and dictionary_learning, in an environment of their own, behind a pipe
evidence  from the tables measured to what each claim is judged by
figures   the study's figures
"""
