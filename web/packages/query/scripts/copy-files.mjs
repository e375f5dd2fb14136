// What the package takes from the repository: the options for protos of one's
// own, whose generated code it holds, and the licence.
import { cpSync } from "node:fs";

const root = new URL("../../../../", import.meta.url);
const here = new URL("../", import.meta.url);
cpSync(new URL("proto/freshet/v1/options.proto", root), new URL("proto/freshet/v1/options.proto", here));
cpSync(new URL("LICENSE", root), new URL("LICENSE", here));
