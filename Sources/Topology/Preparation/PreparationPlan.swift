// SPDX-License-Identifier: Apache-2.0

/// What an operator wants of a physical function.
public struct PreparationWish: Hashable, Sendable {
  /// How many virtual functions, at least one.
  public var functions: Int
  /// The mode of the NIC's switch; nil leaves it as it is.
  public var switchMode: SwitchMode?
  /// Ethernet addresses, of the first functions; an empty list leaves all as they are.
  public var addresses: [MACAddress]
  /// The driver to bind them to; nil is the one that the host's modules name for the device.
  public var driver: String?
  /// Whether they are made to be such as can be migrated; nil is yes where the device knows of it.
  public var isMigratable: Bool?

  public init(
    functions: Int, switchMode: SwitchMode? = nil, addresses: [MACAddress] = [], driver: String? = nil,
    isMigratable: Bool? = nil
  ) {
    self.functions = functions
    self.switchMode = switchMode
    self.addresses = addresses
    self.driver = driver
    self.isMigratable = isMigratable
  }
}

/// What there is of a physical function's settings.
struct PreparationState: Hashable {
  /// A virtual function; what the device knows nothing of is nil.
  struct Function: Hashable {
    var address: String?
    var isMigratable: String?
    /// Empty for none.
    var driverOverride: String
    /// Empty for none.
    var driver: String
  }

  var switchMode: String?
  /// nil where the kernel has no such thing for the device.
  var autoprobe: String?
  var count: Int
  /// The most functions that it can have; nil where the kernel does not say.
  var maximum: Int?
  /// The functions that are PCI devices, `count` of them; empty where functions are none (netdevsim).
  var functions: [Function]
  /// Whether functions are PCI devices, which a driver can be bound to.
  var hasPCIFunctions: Bool
  /// The addresses of functions that are no PCI devices.
  var addresses: [String?]
}

/// The driver that functions are to be bound to.
struct ChosenDriver: Hashable {
  var name: String
  /// The module to load first; nil where the driver is there.
  var module: String?
}

/// From what is there to what is wanted, in the order that the hardware and its drivers need.
///
/// - A function is unbound before anything of it, or of its switch, is changed: a driver reads its function's address and what
///   `migratable` has left of it when it is bound.
/// - The switch's mode comes before new functions: their ports, through which the rest is set, exist in switchdev mode only,
///   and no driver has to give anything up for it.
/// - No driver may look at new functions by itself before they are ready; once all are, the kernel is told again what it was
///   told before. Meanwhile it lets a driver have a function whose `driver_override` names it, and only that.
/// - `driver_override` comes before binding, or another driver could be first.
struct PreparationPlan: Hashable {
  private(set) var steps: [PreparationStep] = []

  /// - Parameter autoprobe: what it is to be in the end, where that is not what it is: a run that was killed has left it.
  /// - Throws: why it can't be done, in words for ``PreparationError/Cause/refused(_:)``.
  init(
    _ wish: PreparationWish, on state: PreparationState, driver: ChosenDriver?, autoprobe: String? = nil
  ) throws(Refusal) {
    if let maximum = state.maximum, wish.functions > maximum {
      throw Refusal(
        reason:
          "it can have \(maximum) VFs, and not \(wish.functions) (on a ConnectX its firmware says how many: NUM_OF_VFS, by "
          + "mlxconfig and a reset of the firmware)")
    }
    guard state.count == 0 || state.count == wish.functions else {
      throw Refusal(
        reason: "it has \(state.count) VFs, and another number only after they are removed: "
          + "vfio-ferry prepare --undo, or echo 0 to its sriov_numvfs")
    }
    guard wish.addresses.count <= wish.functions else {
      throw Refusal(reason: "\(wish.addresses.count) MAC addresses are more than \(wish.functions) VFs")
    }
    if wish.switchMode != nil, state.switchMode == nil {
      throw Refusal(reason: "devlink knows no e-switch of it, whose mode could be set")
    }
    let changesMode = wish.switchMode.map { $0.rawValue != state.switchMode } ?? false
    let wanted = try (0..<wish.functions).map { (number) throws(Refusal) in
      try Self.differences(of: number, wish, state, driver, changesMode: changesMode)
    }
    let existing = Array(state.functions.enumerated())
    if let module = driver?.module, wanted.contains(where: { !$0.isEmpty }) {
      add(.module(module), PreparationSetting.loaded)
    }
    for (number, function) in existing where !function.driver.isEmpty && (changesMode || Self.unbinds(wanted[number])) {
      add(.driver(number), "")
    }
    if changesMode, let mode = wish.switchMode { add(.switchMode, mode.rawValue) }
    var probes = state.autoprobe
    if state.count == 0 {
      if probes == "1" {
        add(.autoprobe, "0")
        probes = "0"
      }
      add(.functions, "\(wish.functions)")
    }
    for steps in wanted { self.steps += steps }
    if let last = autoprobe ?? state.autoprobe, let probes, probes != last { add(.autoprobe, last) }
  }

  /// The way back where nothing tells what was there before: no functions, and no driver for them alone.
  init(undoing state: PreparationState) {
    for (number, function) in state.functions.enumerated() {
      if DriverFacts.isVFIO(function.driver) { add(.driver(number), "") }
      if !function.driverOverride.isEmpty { add(.driverOverride(number), "") }
    }
    if state.count > 0 { add(.functions, "0") }
  }

  struct Refusal: Error, Hashable { let reason: String }

  private mutating func add(_ setting: PreparationSetting, _ value: String) {
    steps.append(PreparationStep(setting: setting, value: value))
  }

  /// Whether a function has to be taken from its driver for these steps.
  private static func unbinds(_ steps: [PreparationStep]) -> Bool {
    steps.contains { step in
      if case .driverOverride = step.setting { false } else { true }
    }
  }

  private static func differences(
    of number: Int, _ wish: PreparationWish, _ state: PreparationState, _ driver: ChosenDriver?, changesMode: Bool
  ) throws(Refusal) -> [PreparationStep] {
    let now = number < state.functions.count ? state.functions[number] : nil
    // What is there now says nothing of what the switch's other mode will have.
    let isKnown = state.count > 0 && !changesMode
    var steps: [PreparationStep] = []
    if number < wish.addresses.count {
      let address = "\(wish.addresses[number])"
      let known = now?.address ?? (number < state.addresses.count ? state.addresses[number] : nil)
      if !isKnown || known != address {
        steps.append(PreparationStep(setting: .address(number), value: address))
      }
    }
    guard state.hasPCIFunctions, let driver else { return steps }
    let migratable = wish.isMigratable == false ? PreparationSetting.disabled : PreparationSetting.enabled
    if isKnown, now?.isMigratable == nil, wish.isMigratable != nil {
      throw Refusal(
        reason: "devlink has no port for VF \(number) that knows of migratable: is its e-switch in switchdev mode, "
          + "and does its firmware support migration?")
    }
    if !isKnown || (now?.isMigratable != nil && now?.isMigratable != migratable) {
      steps.append(
        PreparationStep(setting: .migratable(number), value: migratable, isOptional: wish.isMigratable == nil))
    }
    if now?.driverOverride != driver.name {
      steps.append(PreparationStep(setting: .driverOverride(number), value: driver.name))
    }
    if now?.driver != driver.name || changesMode || unbinds(steps) {
      steps.append(PreparationStep(setting: .driver(number), value: driver.name))
    }
    return steps
  }
}
