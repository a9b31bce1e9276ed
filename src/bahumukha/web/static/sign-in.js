// Where one signs in: only the language, and whether the word was wrong.

import { choose, preferred } from "./strings.js";

document.getElementById("wrong").hidden = !new URLSearchParams(location.search).has("wrong");
choose(preferred(["en", "te"]));
