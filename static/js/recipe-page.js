// The page of an image of one's own: a dialog whose form was refused comes back open.
(() => {
  "use strict";

  document.querySelector("dialog[data-open-now]")?.showModal();
})();
