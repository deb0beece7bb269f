// Starts the page's program.

"use strict";

window.neuropbr = new Page();
const curveData = readData("curve-data");
if (curveData) drawCurves(find("#curves"), curveData);
