"""Adopt an existing project into the template.

The modules, in the order in which `adopt.py` beside this folder calls them:

    command    the whole command, from a folder to a merge on a new branch
    template   the clone of the template: its versions, and the source of later ones
    project    the project before the adoption, and what blocks it
    guesses    answers guessed from the project's files
    render     the answers, and a commit of the rendered template
    merge      the merge, its report, and how to undo it
    proof      a trial update and a training step
"""
