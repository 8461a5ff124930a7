"""Update a project made from a template: a three-way merge by git, in place of Copier's patches.

The modules, in the order in which an update calls them:

    stages      the two stages that `copier update` runs, before and after its own changes
    commands    the command line: an update without Copier's own changes, preview, undo, explain, migrate
    project     the project's files on disk, and the checks that refuse an update
    snapshot    the files that an update may change, saved before it starts
    undo        undo an update: finished, interrupted or failed
    versions    the template's two versions, rendered with their answers
    starts      the version that a file of the owner started from
    sides       the three trees to merge: base, yours, template
    merge       the merge itself, by `git merge-tree`
    plan        for each path: its owner, its outcome, and why
    report      the plan in words: report, preview, explanation
    migrations  changes to the owner's files that a version offers
    git         git commands and trees
    rules       the template's lists of owners and moves
    names       the paths that a template file can become, from its name

The package is independent of the template. `ownership.yml`, `moves.yml` and `migrations/`, beside this folder, hold all
that it needs to know. docs/reuse.md says how another template gets the same updates.
"""
