import { useEffect, useRef, type ReactElement } from "react";
import type { Devtools } from "./devtools.js";
import { mountPanel, type Panel, type Theme } from "./panel.js";

export interface FreshetPanelProps {
  readonly devtools: Devtools;
  /** Default: `system`, as the browser is set. */
  readonly theme?: Theme | undefined;
  readonly className?: string | undefined;
}

/** The panel as a component. */
export function FreshetPanel({ devtools, theme = "system", className }: FreshetPanelProps): ReactElement {
  const element = useRef<HTMLDivElement>(null);
  const panel = useRef<Panel>(null);
  useEffect(() => {
    const mounted = mountPanel(element.current!, devtools);
    panel.current = mounted;
    return () => mounted.unmount();
  }, [devtools]);
  useEffect(() => panel.current?.setTheme(theme), [devtools, theme]);
  return <div ref={element} className={className} />;
}

/** A plugin for `plugins` of `@tanstack/react-devtools`. Make it once, outside of components. */
export function reactPlugin(devtools: Devtools) {
  return {
    id: "freshet",
    name: "Freshet",
    render: (_element: HTMLElement, { theme }: { readonly theme: "light" | "dark" }): ReactElement => (
      <FreshetPanel devtools={devtools} theme={theme} />
    ),
  };
}
