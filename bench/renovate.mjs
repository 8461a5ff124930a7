// One update by Renovate's own code, for bench/renovate.py: its Copier manager, and the commit of the files that the manager collects.
//
//     node bench/renovate.mjs < settings.json
//
// Reads from standard input: `renovate` (its folder in node_modules), `origin` (a repository's URL), `clone` (where to
// put it), `file` (the answers file), `version`, `branch`, `config` (renovate.json), `allowScripts` (in the bot's own
// configuration). Prints the commit, the errors, and the files that are marked as in conflict, as JSON.

import { readFileSync } from "node:fs";

const given = JSON.parse(readFileSync(0, "utf8"));
const part = (name) => import(`${given.renovate}/dist/${name}.js`);
const { GlobalConfig } = await part("config/global");
const { getManagerConfig } = await part("config/index");
const { init } = await part("util/cache/memory/index");
const { setUserEnv } = await part("util/env");
const git = await part("util/git/index");
const { extractPackageFile, updateArtifacts, updateDependency } = await part("modules/manager/copier/index");

const { allowScripts, clone } = given;
GlobalConfig.set({ localDir: clone, cacheDir: clone, binarySource: "global", allowScripts });
init();
setUserEnv(given.config.env);
await git.initRepo({ url: given.origin, defaultBranch: "main", currentBranch: "main" });
await git.syncGit();

const before = readFileSync(`${clone}/${given.file}`, "utf8");
const [dependency] = extractPackageFile(before).deps;
const contents = updateDependency({ fileContent: before, upgrade: dependency });
const results = await updateArtifacts({
  packageFileName: given.file,
  updatedDeps: [{ ...dependency, newValue: given.version }],
  newPackageFileContent: contents,
  config: getManagerConfig(given.config, "copier"),
});
const collected = (results ?? []).flatMap((result) => result.file ?? []);
const files = [{ type: "addition", path: given.file, contents }, ...collected];
const commit = await git.prepareCommit({ branchName: given.branch, files, message: "Update the template", force: true });

console.log(
  JSON.stringify({
    commit: commit?.commitSha,
    errors: (results ?? []).flatMap((result) => result.artifactError?.stderr ?? []),
    notices: (results ?? []).flatMap((result) => result.notice?.file ?? []),
  }),
);
