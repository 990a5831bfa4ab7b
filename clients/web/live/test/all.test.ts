import "./draft.test";
import "./live.test";
import "./state.test";
import "./words.test";
