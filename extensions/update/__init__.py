"""Updates of a project made from a template: a three-way merge by git, in place of Copier's patches.

The modules, in the order in which an update calls them:

    stages     what Copier runs before and after its own work; commands: the same without Copier's work
    project    the project's files on disk, and what may stand in the way of an update
    snapshot   what an update may change, as it was before; undo: the way back
    versions   the template's two versions, rendered with the answers to each
    sides      the three trees to merge: base, yours, template; starts: which version an owner's file started from
    merge      the merge itself, by `git merge-tree`
    plan       for each path: whose it is, what happens to it, and why
    report     the plan in words: report, preview, explanation
    migrations what a version can do in the owner's files if they say so, and its words
    git, rules git commands and trees; the template's lists of owners and moves
    names      the paths that a file of the template can become, from its name

Nothing here knows the template. What it has to say is beside this folder: `ownership.yml`, `moves.yml`, `migrations/`.
How another template gets these updates is in docs/reuse.md.
"""
