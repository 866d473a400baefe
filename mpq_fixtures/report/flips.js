// Lay the original over what was decoded, with a wipe between them, and let both be enlarged to their pixels.
for (const figure of document.querySelectorAll(".flip-picture")) {
  const sides = figure.querySelector(".sides");
  const frame = figure.querySelector(".frame");
  const name = figure.dataset.name;
  const tools = document.createElement("div");
  tools.className = "flip-tools";
  if (sides.children.length === 2) {
    const wipe = document.createElement("input");
    wipe.type = "range";
    wipe.min = 0;
    wipe.max = 100;
    wipe.value = 50;
    wipe.setAttribute("aria-label", `Share of the original that is shown: ${name}`);
    wipe.setAttribute("aria-valuetext", "50 % original");
    wipe.addEventListener("input", () => {
      sides.style.setProperty("--at", `${wipe.value}%`);
      wipe.setAttribute("aria-valuetext", `${wipe.value} % original`);
    });
    figure.classList.add("is-wiped");
    tools.append(wipe);
  }
  const zoom = document.createElement("button");
  zoom.type = "button";
  zoom.textContent = "Zoom";
  zoom.setAttribute("aria-label", `Zoom: ${name}`);
  zoom.setAttribute("aria-pressed", "false");
  const turn = () => {
    const large = figure.classList.toggle("is-zoomed");
    const pixels = Math.max(...[...sides.querySelectorAll("img")].map((image) => image.naturalWidth));
    sides.style.width = large ? `${3 * pixels * (figure.classList.contains("is-wiped") ? 1 : sides.children.length)}px` : "";
    zoom.setAttribute("aria-pressed", String(large));
    frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
    if (large) frame.tabIndex = 0; // what scrolls can be reached by keyboard
    else frame.removeAttribute("tabindex");
  };
  zoom.addEventListener("click", turn);
  sides.addEventListener("dblclick", turn);
  tools.append(zoom);
  frame.after(tools);
}

// One sound at a time.
document.addEventListener(
  "play",
  (event) => {
    for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
  },
  true, // media events do not bubble
);
