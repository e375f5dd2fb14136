import type { Devtools } from "./devtools.js";
import { mountPanel, type Panel } from "./panel.js";

/** A plugin as TanStack Devtools (0.15) takes them. */
export interface Plugin {
  readonly id: string;
  readonly name: string;
  /** Called anew, for the same element, when the theme is another. */
  render(element: HTMLElement, props: { readonly theme: "light" | "dark" }): void;
  destroy(): void;
}

/** For the devtools of any framework; for React's see ./react. */
export function devtoolsPlugin(devtools: Devtools): Plugin {
  let on: { readonly element: HTMLElement; readonly panel: Panel } | undefined;
  return {
    id: "freshet",
    name: "Freshet",
    render(element, { theme }) {
      if (on?.element === element) return on.panel.setTheme(theme);
      on?.panel.unmount();
      on = { element, panel: mountPanel(element, devtools, { theme }) };
    },
    destroy() {
      on?.panel.unmount();
      on = undefined;
    },
  };
}
