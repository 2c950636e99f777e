// Brings the page to what its controls say. It is called whenever one of them, or the selection, changes.
// points: a source with a row an image; frames: the run's snapshots and its end; see explorer.py, which gives the rest.
const frame = frames[slider.value]
const shown = frame.x.length // in snapshots, only the first images
const wrong = [
  () => true,
  i => frame.predicted[i] != labels[i] && labels[i] < num_classes,
  i => frame.nearest[i] != labels[i] && labels[i] < num_classes,
][which.active]

if (cb_obj === play) {
  clearInterval(window.playing)
  if (play.active) {
    if (slider.value == slider.end) slider.value = 0
    window.playing = setInterval(() => {
      if (slider.value < slider.end) slider.value += 1
      if (slider.value == slider.end) play.active = false
    }, 400)
  }
} else if (cb_obj === points.selected) {
  const chosen = points.selected.indices
  const most = 150
  const image = i => `<span title="${escaped(points.data.name[i])}" style="${tile}${points.data.sprite[i]}"></span>`
  sheet.text = chosen.length == 0 ? hint : `<b>${chosen.length.toLocaleString("en")} selected</b>` +
    (chosen.length > most ? `, the first ${most}` : "") + `<br>${[...chosen].slice(0, most).map(image).join("")}`
} else {
  const rows = labels.length
  const padded = values => Float32Array.from({length: rows}, (_, i) => i < shown ? values[i] : NaN)
  const named = ids => Array.from({length: rows}, (_, i) => i < shown ? names[ids[i]] : "")
  if (cb_obj === slider) {
    points.data = {
      ...points.data, x: padded(frame.x), y: padded(frame.y), near: padded(frame.near),
      own: Array.from({length: rows}, (_, i) => i < shown && !isNaN(frame.own[i]) ? frame.own[i].toFixed(3) : "none"),
      predicted: named(frame.predicted), nearest: named(frame.nearest),
    }
    centers.data = {...centers.data, x: frame.centers_x, y: frame.centers_y}
    edges.data = frame.edges
    const [left, right, bottom, top] = frame.limits
    plot.x_range.setv({start: left, end: right})
    plot.y_range.setv({start: bottom, end: top})
    plot.title.text = frame.title
  }
  const last = slider.value == slider.end // only of the end there is a classifier
  regions.visible = background.active.includes(0) && last
  boundaries.visible = background.active.includes(1)
  let count = 0
  members.forEach((indices, group) => {
    const kept = Array.from(indices).filter(i => i < shown && wrong(i))
    count += kept.length
    views[group].filter.indices = kept
    views[group].properties.filter.change.emit()
  })
  status.text = `${count.toLocaleString("en")} of ${shown.toLocaleString("en")} images`
}

function escaped(text) {
  return text.replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`)
}
