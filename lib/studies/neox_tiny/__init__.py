"""What neox-tiny has learnt: ordinary text, the planted sports, indirect objects.

measures  the text it is trained on, its losses by work, its answers to questions
evidence  from the tables measured to what each claim is judged by
figures   the study's figure
"""
