// The API reference: Swagger UI, a request to copy for every operation, and the rare statuses only if they are asked for.
"use strict";

(() => {
  const root = document.getElementById("reference");

  // A browser offers its clipboard to pages that came over HTTPS, or from this machine.
  const copy = async (button, text) => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text and copy it";
    }
  };

  // Shows an operation's x-codeSamples above its answers, with the address that this page came from.
  const samples = (system) => {
    const element = system.React.createElement;
    return {
      wrapComponents: {
        responses: (Responses) => (props) => {
          const operation = system.specSelectors.specJson().getIn(["paths", props.path, props.method]);
          const source = operation && operation.getIn(["x-codeSamples", 0, "source"]);
          if (!source) {
            return element(Responses, props);
          }
          const text = source.replaceAll("$GRAYCAT", root.dataset.base);
          return element("div", null,
            element("div", { className: "sample" },
              element("h4", null, "Example"),
              element("button", { type: "button", onClick: (event) => copy(event.currentTarget, text) }, "Copy"),
              element("pre", { tabIndex: 0 }, element("code", null, text))),
            element(Responses, props));
        },
      },
    };
  };

  root.dataset.base = new URL(root.dataset.prefix, window.location.href).href.replace(/\/$/, "");

  const rare = document.getElementById("rare");
  rare.addEventListener("change", () => document.body.classList.toggle("rare", rare.checked));

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", dress);
  dress();

  window.SwaggerUIBundle({
    url: root.dataset.document,
    domNode: root,
    presets: [window.SwaggerUIBundle.presets.apis],
    plugins: [samples],
    layout: "BaseLayout",
    deepLinking: true,
    docExpansion: "none",
    filter: true,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    showCommonExtensions: true,
    // An API token is kept in the page alone: it is gone with the window.
    persistAuthorization: false,
    // Nothing is asked of other sites.
    validatorUrl: null,
  });
})();
