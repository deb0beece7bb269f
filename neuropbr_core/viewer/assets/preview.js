// The interactive preview: a material on a plane, a ball or a cube, under a lamp that moves.
// three.js draws the geometry; shading.glsl computes its colours as neuropbr_core's renderer does.

"use strict";

const VERTEX_SHADER = `
precision highp float;
uniform mat4 modelMatrix, viewMatrix, projectionMatrix;
uniform vec2 repeats, offset;
in vec3 position, normal;
in vec4 tangent;
in vec2 uv;
out vec3 worldPosition, worldNormal, worldTangent;
out vec2 textureCoordinates;
void main() {
  vec4 world = modelMatrix * vec4(position, 1.0);
  worldPosition = world.xyz;
  worldNormal = normal;
  worldTangent = tangent.xyz;
  // Rows of the maps run downwards from v = 0, as in neuropbr_core.
  textureCoordinates = vec2(uv.x, 1.0 - uv.y) * repeats + offset;
  gl_Position = projectionMatrix * viewMatrix * world;
}`;

const MAPS = ["albedo", "roughness", "metallic", "normal"];
const CLOSEST = 1.2;
const FARTHEST = 6;
// Radians that an arrow key turns.
const STEP = Math.PI / 36;

class Preview {
  // settings: what studio.preview_settings wrote; shader: the constants and shading.glsl.
  constructor(canvas, settings, shader) {
    this.canvas = canvas;
    this.settings = settings;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
    this.renderer.outputColorSpace = THREE.LinearSRGBColorSpace; // the shader encodes its colours itself
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(settings.fieldOfView, 1, 0.05, 50);
    this.material = new THREE.RawShaderMaterial({
      glslVersion: THREE.GLSL3,
      vertexShader: VERTEX_SHADER,
      fragmentShader: shader,
      side: 2, // both sides, so that a plane seen from behind does not vanish
      uniforms: {
        albedoMap: { value: null },
        roughnessMap: { value: null },
        metallicMap: { value: null },
        normalMap: { value: null },
        mapOn: { value: [true, true, true, true] },
        levels: { value: this.table(settings.levels) },
        entering: { value: this.table(settings.entering) },
        brdfTable: { value: this.table(settings.brdf) },
        eye: { value: new THREE.Vector3() },
        lamp: { value: new THREE.Vector3(...settings.lamp) },
        flash: { value: settings.flash },
        roomLight: { value: 1 },
        exposure: { value: 1 },
        repeats: { value: [1, 1] },
        offset: { value: [0, 0] },
      },
    });
    this.geometries = {
      plane: new THREE.PlaneGeometry(1, 1),
      ball: new THREE.SphereGeometry(settings.radius, 192, 96),
      cube: new THREE.BoxGeometry(0.72, 0.72, 0.72),
    };
    for (const geometry of Object.values(this.geometries)) geometry.computeTangents();
    this.mesh = new THREE.Mesh(this.geometries.ball, this.material);
    this.scene.add(this.mesh);
    this.textures = new Map();
    this.wanted = { albedo: true, roughness: true, metallic: true, normal: true };
    this.reset();
    this.setTiles(1);
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  // A table of half floats with four channels: two axes, or three.
  table({ size, halves }) {
    const bytes = Uint8Array.from(atob(halves), (character) => character.charCodeAt(0));
    const values = new Uint16Array(bytes.buffer);
    const [width, height, depth] = [...size].reverse();
    const texture = depth === undefined
      ? new THREE.DataTexture(values, width, height)
      : new THREE.Data3DTexture(values, width, height, depth);
    texture.format = THREE.RGBAFormat;
    texture.type = THREE.HalfFloatType;
    texture.minFilter = texture.magFilter = THREE.LinearFilter;
    texture.wrapS = texture.wrapT = texture.wrapR = THREE.ClampToEdgeWrapping;
    texture.needsUpdate = true;
    return texture;
  }

  reset() {
    this.shape = "ball";
    // Angles around the vertical and above the horizon, seen from the middle of the scene.
    this.azimuth = 0;
    this.elevation = 0;
    this.distance = this.settings.distance;
    const [x, y, z] = this.settings.lamp;
    this.lampDistance = Math.hypot(x, y, z);
    this.setLamp(Math.atan2(y, x), Math.asin(z / this.lampDistance));
  }

  // Angles in radians: around the line of sight from the right, and towards the eye.
  setLamp(around, towards) {
    this.lampAround = around;
    this.lampTowards = Math.min(Math.max(towards, 0.05), Math.PI / 2);
    const side = this.lampDistance * Math.cos(this.lampTowards);
    this.material.uniforms.lamp.value.set(
      side * Math.cos(around),
      side * Math.sin(around),
      this.lampDistance * Math.sin(this.lampTowards),
    );
    this.changed();
  }

  setShape(shape) {
    this.shape = shape;
    this.mesh.geometry = this.geometries[shape];
    if (shape === "cube" && this.azimuth === 0 && this.elevation === 0) {
      // From the front, a cube looks like a plane.
      this.azimuth = -0.6;
      this.elevation = 0.45;
    }
    if (shape === "plane") {
      this.azimuth = 0;
      this.elevation = 0;
    }
    this.setTiles(this.tiles);
  }

  setTiles(tiles) {
    this.tiles = tiles;
    // A ball shows half of its circumference and is twice as far around as high.
    const onBall = this.settings.ballTiles * tiles;
    const { repeats, offset } = this.material.uniforms;
    repeats.value = this.shape === "ball" ? [2 * onBall, onBall] : [tiles, tiles];
    // The middle of a tile faces the eye: borders of most materials show.
    offset.value = this.shape === "ball" ? [0.5, 0.5] : [0, 0];
    this.changed();
  }

  setMapOn(name, on) {
    this.wanted[name] = on;
    this.applyMaps();
  }

  // A map that is missing cannot be on, whatever the viewer wants.
  applyMaps() {
    const { uniforms } = this.material;
    uniforms.mapOn.value = MAPS.map((name) => this.wanted[name] && uniforms[`${name}Map`].value !== null);
    this.changed();
  }

  setUniform(name, value) {
    this.material.uniforms[name].value = value;
    this.changed();
  }

  // images: loaded <img> elements by name of their map; the shader's neutral value replaces those that are missing.
  async setMaps(images) {
    // Decoding takes time, and a later call may be through before this one.
    const turn = (this.turn || 0) + 1;
    this.turn = turn;
    const chosen = {};
    for (const name of MAPS) {
      const image = images[name];
      if (!image) continue;
      await image.decode();
      if (!this.textures.has(image)) {
        const texture = new THREE.Texture(image);
        texture.colorSpace = name === "albedo" ? THREE.SRGBColorSpace : THREE.NoColorSpace;
        texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
        texture.flipY = false;
        texture.minFilter = THREE.LinearMipmapLinearFilter;
        texture.anisotropy = Math.min(8, this.renderer.capabilities.getMaxAnisotropy());
        texture.needsUpdate = true;
        this.textures.set(image, texture);
      }
      chosen[name] = this.textures.get(image);
    }
    if (turn !== this.turn) return;
    // Textures of pictures that a program has taken out of the page.
    for (const [image, texture] of this.textures) {
      if (image.isConnected) continue;
      texture.dispose();
      this.textures.delete(image);
    }
    for (const name of MAPS) this.material.uniforms[`${name}Map`].value = chosen[name] || null;
    this.applyMaps();
  }

  resize() {
    const side = this.canvas.clientWidth;
    if (!side) return;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.setSize(side, this.canvas.clientHeight, false);
    this.camera.aspect = side / this.canvas.clientHeight;
    this.camera.updateProjectionMatrix();
    this.changed();
  }

  // Draws soon, once for any number of changes.
  changed() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.due = false;
    const limit = Math.PI / 2 - 0.01;
    this.elevation = Math.min(Math.max(this.elevation, -limit), limit);
    this.distance = Math.min(Math.max(this.distance, CLOSEST), FARTHEST);
    const level = this.distance * Math.cos(this.elevation);
    this.camera.position.set(
      level * Math.sin(this.azimuth),
      this.distance * Math.sin(this.elevation),
      level * Math.cos(this.azimuth),
    );
    this.camera.lookAt(0, 0, 0);
    this.material.uniforms.eye.value.copy(this.camera.position);
    this.renderer.render(this.scene, this.camera);
  }

  listen() {
    const { canvas } = this;
    const pointers = new Map();
    let apart = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      apart = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      pointers.set(event.pointerId, now);
      if (pointers.size === 2) {
        const [first, second] = [...pointers.values()];
        const distance = Math.hypot(first[0] - second[0], first[1] - second[1]);
        if (apart) this.distance *= apart / distance;
        apart = distance;
        this.changed();
        return;
      }
      const across = ((now[0] - before[0]) / canvas.clientWidth) * Math.PI;
      const up = ((now[1] - before[1]) / canvas.clientHeight) * Math.PI;
      if (event.buttons === 2 || event.shiftKey) {
        // The lamp follows the pointer as it would over a hemisphere around the material.
        const { x, y } = this.material.uniforms.lamp.value;
        this.moveLampTo(x + across, y - up);
      } else {
        this.azimuth -= across;
        this.elevation += up;
        this.changed();
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      // Without focus the wheel scrolls the page, as everywhere else.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      this.distance *= Math.exp(event.deltaY / 800);
      this.changed();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      const move = moves[event.key];
      if (move && event.shiftKey) {
        const { x, y } = this.material.uniforms.lamp.value;
        this.moveLampTo(x + 2 * STEP * move[0], y + 2 * STEP * move[1]);
      } else if (move) {
        this.azimuth += STEP * move[0];
        this.elevation += STEP * move[1];
      } else if (event.key === "+" || event.key === "=") {
        this.distance /= 1.1;
      } else if (event.key === "-") {
        this.distance *= 1.1;
      } else {
        return;
      }
      event.preventDefault();
      this.changed();
    });
  }

  moveLampTo(x, y) {
    const side = Math.min(Math.hypot(x, y), this.lampDistance * 0.999);
    this.setLamp(Math.atan2(y, x), Math.acos(side / this.lampDistance));
    this.canvas.dispatchEvent(new Event("lampmoved"));
  }
}
