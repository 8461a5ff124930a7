"""Let a project that was not made from this template join it.

The modules, in the order in which `adopt.py` beside this folder calls them:

    command    the whole of it, from a folder to a merge on a new branch
    template   the clone of the template: its versions, and where later ones come from
    project    the project as it is found, and what may be in the way
    guesses    answers that the project gives by what is in it
    render     the answers, and a commit of what the template makes with them
    merge      the merge, what to say of it, and the way back
    proof      a trial update, and a step of training
"""
