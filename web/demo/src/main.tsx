import { createRoot } from "react-dom/client";
import { Page } from "./page.js";
import "./styles/base.css";
import "./styles/room.css";
import "./styles/account.css";
import "./styles/inspector.css";
import "./styles/narrow.css";
import "./styles/forced.css";

createRoot(document.getElementById("root")!).render(<Page />);
