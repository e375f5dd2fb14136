import { hydrateRoot } from "react-dom/client";
import { live, Page } from "./app.js";

const state = document.getElementById("state")!.textContent;
hydrateRoot(document, <Page state={state} {...live(location.origin)} />);
