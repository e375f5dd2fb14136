// What the package takes from the repository: the licence.
import { cpSync } from "node:fs";

cpSync(new URL("../../../../LICENSE", import.meta.url), new URL("../LICENSE", import.meta.url));
