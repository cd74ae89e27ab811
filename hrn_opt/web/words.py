"""Every word on the page, in English and Chinese.

What stands in widgets is translated by the browser (gr.I18n); what the server writes while it works follows the
browser's Accept-Language. Errors carry their English sentence; the Chinese one is found by class and reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from hrn_opt.errors import HrnOptError
from hrn_opt.program import FETCH
from hrn_opt.types import Advice, Stage

LANGUAGES = ("en", "zh")

# key: English, Chinese
WORDS: dict[str, tuple[str, str]] = {
    "title": ("Photo to 3D face", "照片变三维人脸"),
    "intro": (
        "Give one photo of a face; get back a textured 3D face. Nothing leaves this machine.",
        "给一张人脸照片，得到带纹理的三维人脸。照片不会离开这台机器。",
    ),
    "sign_out": ("Sign out", "退出登录"),
    "photo": ("Photo", "照片"),
    "faces_found": ("Faces found", "找到的人脸"),
    "which_face": ("Which face", "选择人脸"),
    "all_faces": ("All", "全部"),
    "example": ("Try this one", "试试这张"),
    "choices": ("Choices", "选项"),
    "model": ("Model", "模型"),
    "model_auto": ("Best one here", "本机最佳"),
    "model_builtin": ("Embedded: at once, on any machine", "内置：任何机器上即时可用"),
    "model_hrn": ("HRN: finer, with wrinkles", "HRN：更精细，含皱纹"),
    "texture_size": ("Texture size (pixels)", "纹理尺寸（像素）"),
    "want": ("What to make", "生成内容"),
    "want_texture": ("Texture only", "仅纹理"),
    "want_mesh": ("Texture and 3D", "纹理与三维"),
    "want_turntable": ("Everything, turntable too", "全部，含旋转动画"),
    "precision": ("Precision (HRN)", "精度（HRN）"),
    "precision_auto": ("Automatic", "自动"),
    "create": ("Create", "生成"),
    "cancel": ("Cancel", "取消"),
    "shown_face": ("Shown face", "显示的人脸"),
    "tab_scene": ("3D", "三维"),
    "tab_texture": ("Texture", "纹理"),
    "tab_compare": ("Overlay", "叠加"),
    "tab_maps": ("Maps", "贴图"),
    "tab_turntable": ("Turntable", "旋转"),
    "tab_cost": ("Timings", "用时"),
    "surface": ("Surface", "表面"),
    "textured": ("Textured", "带纹理"),
    "clay": ("Clay", "素模"),
    "compare": ("Photo and mesh", "照片与网格"),
    "maps": ("Normals and displacement", "法线与位移"),
    "map_normal": ("Normals", "法线"),
    "map_displacement": ("Displacement", "位移"),
    "get_texture": ("Texture", "纹理"),
    "get_scene": ("GLB", "GLB"),
    "get_obj": ("OBJ", "OBJ"),
    "get_everything": ("All (zip)", "全部（zip）"),
    "idle": ("Drop a photo, paste one, or use the camera.", "请拖入、粘贴照片，或用摄像头拍一张。"),
    "looking": ("Looking for faces …", "正在找人脸……"),
    "found_one": ("One face found. Press Create.", "找到一张人脸。请按“生成”。"),
    "found_many": (
        "{count} faces found. Pick one, or all, and press Create.",
        "找到 {count} 张人脸。选一张或全部，再按“生成”。",
    ),
    "waiting": ("Waiting: {position} before this photo", "排队中：前面还有 {position} 张"),
    "waiting_model": ("Waiting until the model is loaded …", "等待模型载入……"),
    "loading": ("Loading the model …", "正在载入模型……"),
    "working": ("Working …", "处理中……"),
    "working_on": ("Face {number} of {count} …", "第 {number} 张，共 {count} 张……"),
    "writing": ("Writing the files …", "正在写文件……"),
    "done": ("Done in {seconds} s.", "完成，用时 {seconds} 秒。"),
    "run": ("Run {run_id}", "任务编号 {run_id}"),
    "left_out": ("{count} of the faces are left out: {why}", "有 {count} 张人脸未处理：{why}"),
    "stopped": ("Stopped.", "已停止。"),
    "broken": (
        "Something went wrong here; the server's log says what. Try another photo.",
        "服务器出错了，详情见服务器日志。请换一张照片再试。",
    ),
    "no_photo": (
        "There is no photo yet; drop one above, paste one, or use the camera.",
        "还没有照片；请拖入、粘贴，或用摄像头拍一张。",
    ),
    "hrn_missing": (
        f"HRN is not on this machine: `{FETCH}` gets it (1.1 GB).",
        f"本机没有 HRN：运行 `{FETCH}` 下载（1.1 GB）。",
    ),
    "hrn_fetched_in_part": (
        f"HRN is fetched in part: `{FETCH}` goes on.",
        f"HRN 只下载了一部分：运行 `{FETCH}` 继续。",
    ),
    "hrn_not_prepared": (
        f"HRN is fetched, not prepared: `{FETCH}` does it.",
        f"HRN 已下载但未准备：运行 `{FETCH}`。",
    ),
    "hrn_without_detectors": (
        f"HRN lacks its detector files, so that the embedded model finds the landmarks: `{FETCH}` gets them.",
        f"HRN 缺少检测文件，关键点改由内置模型给出：运行 `{FETCH}` 获取。",
    ),
    "hrn_damaged": (
        f"HRN's files are damaged: `{FETCH}` makes them anew.",
        f"HRN 文件已损坏：运行 `{FETCH}` 重新生成。",
    ),
    "stage_find": ("Find the face", "寻找人脸"),
    "stage_align": ("Place the landmarks", "定位关键点"),
    "stage_shape": ("Shape the head", "塑造形状"),
    "stage_detail": ("Carve the details", "雕刻细节"),
    "stage_texture": ("Unwrap the skin", "展开皮肤"),
    "stage_assemble": ("Finish", "收尾"),
    "cost_seconds": ("{seconds} s", "{seconds} 秒"),
    "cost_caption": (
        "Seconds of each stage; the thin bar is the memory that the process at work holds after it.",
        "各阶段用时；细条为该阶段结束后处理进程占用的内存。",
    ),
}

STAGE_KEYS = {stage: f"stage_{stage.value}" for stage in Stage}

# Errors by class, and by class and reason; the English sentence is the error's own.
ERRORS_ZH: dict[str, str] = {
    "PhotoMissing": "没有照片；请拖入、粘贴，或用摄像头拍一张。",
    "PhotoEmpty": "{photo} 是空文件；请重新保存或下载。",
    "PhotoUnreadable": "{photo} 无法读取；请换一张 JPEG、PNG 或 WebP 照片。",
    "PhotoUnreadable.damaged": "{photo} 已损坏或不完整；请重新保存或下载。",
    "PhotoUnreadable.no picture": "{photo} 不是可识别的图片；请使用 JPEG、PNG、WebP、HEIC、AVIF、TIFF、BMP 或 GIF。",
    "PhotoUnreadable.video": "{photo} 是视频；请使用静态照片。",
    "PhotoUnreadable.sound": "{photo} 是音频文件；请使用照片。",
    "PhotoFormatUnsupported": "不支持 {photo} 的格式（{format}）；请另存为 JPEG 或 PNG。",
    "PhotoFormatUnsupported.raw": "{photo} 是相机的 RAW 文件，不是成品照片；请先冲洗（导出）为 JPEG。",
    "PhotoFormatUnsupported.document": "{photo} 不是图片（{format}）；请取出其中的照片，存为 JPEG 或 PNG。",
    "PhotoTooSmall": "{photo} 只有 {width_px}×{height_px} 像素；每边至少需要 {least_px} 像素。",
    "PhotoTooLarge.bytes": "{photo} 超过 {most} MB；请使用较小的文件。",
    "PhotoTooLarge.pixels": "{photo} 超过 {most} 百万像素；请先缩小。",
    "PhotoTooLarge.parts": "{photo} 由超过 {most} 个部分组成；请用图片软件打开并另存为 JPEG。",
    "PhotoTooCostly.time": "打开 {photo} 用时过长；请用图片软件打开并另存为 JPEG。",
    "PhotoTooCostly.memory": "打开 {photo} 需要的内存过多；请用图片软件打开并另存为 JPEG。",
    "PhotoTooCostly.died": "{photo} 无法打开：读取时中断；请用图片软件打开并另存为 JPEG。",
    "NoFaceFound": "没有找到人脸；请使用清晰、光线好、正面或半侧面的照片。",
    "FaceNotThere": "没有第 {number} 张人脸；共找到 {count} 张。",
    "FaceTooSmall": "人脸只有 {width_px} 像素宽，至少需要 {least_px}；请使用更近或更大的照片，不要用放大过的。",
    "PhotoTooDark": "人脸几乎全黑；请使用脸部有光的照片。",
    "FaceTurnedTooFar": "人脸转过了 {yaw_deg}°，有一半看不见；请使用正面或半侧面的照片（不超过 {most_deg}°）。",
    "ModelMissing": f"模型 {{model}} 不在这台机器上；请运行 {FETCH}，或选择内置模型。",
    "ModelDamaged": f"模型文件已损坏；请运行 {FETCH} 重新获取。",
    "PackError": f"HRN 模型文件不可用；请运行 {FETCH}。",
    "OptionInvalid": "选项无效；请重新载入页面再试。",
    "OutputUnwritable": "结果文件无法写入；请稍后再试。",
    "Stopped": "已停止。",
    "QueueFull.all": "等待的照片已满（{most_jobs} 张）；请一分钟后再试。",
    "QueueFull.visitor": "您已有 {most_jobs} 张照片在处理；请一分钟后再试。",
    "QueueFull.address": "您所在的网络已有 {most_jobs} 张照片在处理；请一分钟后再试。",
    "ShuttingDown": "服务器正在停止；请一分钟后再试。",
    "ProcessDied": "这张照片没有完成，可能是内存不足；请重试，或选较小的纹理。",
    "InternalError": "服务器出错了，详情见服务器日志。请换一张照片再试。",
    "DeadlinePassed": "这张照片超过了 {deadline_s} 秒，已放弃；请稍后再试，或选较小的纹理。",
    "OutOfMemory": "内存不足；请选较小的纹理，或等排队的照片少些再试。",
    "DiskFull": "服务器磁盘已满或不可写；请告知管理员。",
    "DiskFull.quota": "访客文件已占满此处允许的 {most_mb} MB；请几分钟后旧文件删除时再试。",
    "InputError": "输入无法使用；请换一张照片再试。",
    "HrnOptError": "未能完成；请换一张照片再试。",
}

ADVICE_ZH = {
    "FaceSmall": "人脸只有 {width_px} 像素宽：达到 {good_px} 像素会更像。",
    "PhotoDark": "脸部偏暗：光线更好时，形状和颜色会更好。",
    "FaceCovered": "脸的一部分被遮住，或处在很深的阴影里：那里的形状和颜色是推测的。",
    "PhotoBright": "脸的一部分过曝成了白色：光线柔和一些，颜色会更好。",
    "WithoutDetectors": "本机的 HRN 缺少检测文件：关键点来自内置模型，纹理未做脸颊加宽；取得完整文件即为论文结果。",
    "FaceTurned": "人脸转过了 {yaw_deg}°：远侧有一部分是近侧的镜像。",
}


def i18n() -> gr.I18n:
    """What the browser translates widgets with."""
    return gr.I18n(
        **{language: {key: texts[n] for key, texts in WORDS.items()} for n, language in enumerate(LANGUAGES)}
    )


def language_of(headers: Mapping[str, str]) -> str:
    """ "zh" or "en": the first of the browser's languages that is one of them."""
    for wish in headers.get("accept-language", "").split(","):
        language = wish.split(";")[0].strip().lower().split("-")[0]
        if language in LANGUAGES:
            return language
    return "en"


def say(language: str, key: str, **values: object) -> str:
    return WORDS[key][LANGUAGES.index(language)].format(**values)


def say_error(language: str, error: HrnOptError) -> str:
    """The error's own sentence, or the Chinese one of its class, or of the nearest class above that has one."""
    if language == "en":
        return str(error)
    reason = error.values.get("reason")
    for kind in type(error).__mro__:
        for key in (f"{kind.__name__}.{reason}", kind.__name__):
            if key in ERRORS_ZH:
                return ERRORS_ZH[key].format(**error.values)
    return str(error)


def say_advice(language: str, advice: Advice) -> str:
    return advice.message if language == "en" else ADVICE_ZH[advice.key].format(**advice.values)
